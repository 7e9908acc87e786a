"""A CloudFormation template -> what stands in the distribution when it is deployed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANAGED_CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
"""DG:using-managed-cache-policies."""
DOMAIN = "d111111abcdef8.cloudfront.net"


class Stack:
    """A template with its references followed. `parameters`: by name; the others get a value of their own."""

    def __init__(self, template: Path, parameters: Mapping[str, str]) -> None:
        read = json.loads(template.read_text())
        self._resources: dict[str, Any] = read["Resources"]
        self._parameters = {name: f"{name.lower()}.example" for name in read.get("Parameters", {})} | dict(parameters)
        self.distribution: dict[str, Any] = self._resolved(self._one("AWS::CloudFront::Distribution"))[
            "DistributionConfig"
        ]
        self.web_acl: dict[str, Any] = self._resolved(self._one("AWS::WAFv2::WebACL"))

    def _one(self, kind: str) -> dict[str, Any]:
        (found,) = [each["Properties"] for each in self._resources.values() if each["Type"] == kind]
        return dict(found)

    def resource(self, reference: str, kind: str) -> dict[str, Any]:
        """Properties of what a `Ref` or an ARN points at."""
        found = self._resources[reference.partition("#")[0]]
        assert found["Type"] == kind, f"{reference} is {found['Type']}, not {kind}"
        return dict(self._resolved(found["Properties"]))

    def function(self, reference: str) -> str:
        """Source of a CloudFront Function."""
        return str(self.resource(reference, "AWS::CloudFront::Function")["FunctionCode"])

    def handler(self, reference: str) -> tuple[str, str, str]:
        """Key of the package in the bucket, `module.function`, and the digest it must have, of a numbered version."""
        version = self.resource(reference, "AWS::Lambda::Version")
        function = self.resource(version["FunctionName"], "AWS::Lambda::Function")
        return str(function["Code"]["S3Key"]), str(function["Handler"]), str(version["CodeSha256"])

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._resolved(each) for each in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"Ref"}:
            return self._named(value["Ref"])
        if set(value) == {"Fn::GetAtt"}:
            return f"{value['Fn::GetAtt'][0]}#{value['Fn::GetAtt'][1]}"
        if set(value) == {"Fn::Sub"}:
            text = re.sub(r"\$\{([^}]+)\}", lambda found: self._named(found[1]), value["Fn::Sub"])
            return re.sub(r"\{\{resolve:secretsmanager:(.*)\}\}", r"secret of \1", text)
        return {name: self._resolved(each) for name, each in value.items()}

    def _named(self, name: str) -> str:
        if name in self._parameters:
            return self._parameters[name]
        return "stack" if name.startswith("AWS::") else name
