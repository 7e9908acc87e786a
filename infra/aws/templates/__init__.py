"""CloudFormation templates as pure functions: values in, a dictionary out."""
