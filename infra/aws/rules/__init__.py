"""The rules of the edge lint, by what they look at; infra/aws/lint.py runs them."""
