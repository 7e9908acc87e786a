"""What CloudFront makes of a request: its behaviour in the compiled template, and what that refers to."""

from __future__ import annotations

import json
from typing import Any

from edge.core.policy import CachePolicy, PolicySet
from infra.aws.compile import TEMPLATE, CompileError, compile_policies
from infra.aws.functions import FunctionTooLarge
from infra.aws.package_lambda import PackageTooLarge
from infra.aws.templates.behaviours import matches


class CloudFront:
    """The compiled distribution, as far as one request is concerned."""

    def __init__(self, policies: PolicySet) -> None:
        self.refused = ""
        self._behaviours: list[dict[str, Any]] = []
        self._resources: dict[str, Any] = {}
        self._differences: dict[str, list[str]] = {}
        try:
            compiled = compile_policies(policies)
        except (CompileError, FunctionTooLarge, PackageTooLarge) as exc:
            self.refused = str(exc).splitlines()[0]
            return
        self._resources = json.loads(compiled.files[TEMPLATE])["Resources"]
        config = self._resources["Distribution"]["Properties"]["DistributionConfig"]
        self._behaviours = [*config["CacheBehaviors"], {**config["DefaultCacheBehavior"], "PathPattern": "*"}]
        for difference in compiled.report.differences:
            said = self._differences.setdefault(difference.policy_id, [])
            said.append(f"{difference.field}: {difference.instead}")

    def of(self, path: str, policy: CachePolicy) -> dict[str, Any]:
        """The behaviour that a viewer's `path` falls under, what it refers to, and what CloudFront does otherwise."""
        if self.refused:
            return {"does_not_compile": self.refused}
        number, behaviour = next(
            (number, behaviour)
            for number, behaviour in enumerate(self._behaviours, start=1)
            if matches(behaviour["PathPattern"], path)
        )
        cache_policy = _named(behaviour["CachePolicyId"])
        config = self._resources.get(cache_policy, {}).get("Properties", {}).get("CachePolicyConfig", {})
        return {
            "behaviour": number,
            "of": len(self._behaviours),
            "pattern": behaviour["PathPattern"],
            "cache_policy": cache_policy,
            "max_ttl_s": config.get("MaxTTL", 0),
            "origin_request_policy": _named(behaviour["OriginRequestPolicyId"]),
            "response_headers_policy": _named(behaviour["ResponseHeadersPolicyId"]),
            "functions": [
                {"event": each["EventType"], "function": _named(each["FunctionARN"])}
                for each in behaviour.get("FunctionAssociations", [])
            ]
            + [
                {"event": each["EventType"], "function": self._handler(_named(each["LambdaFunctionARN"]))}
                for each in behaviour.get("LambdaFunctionAssociations", [])
            ],
            "otherwise": self._differences.get(policy.id, []),
        }

    def _handler(self, name: str) -> str:
        """The Lambda function behind a version."""
        version = self._resources.get(name, {})
        return _named(version.get("Properties", {}).get("FunctionName", name))


def _named(reference: Any) -> str:
    """The logical id in a reference of CloudFormation; text as it is."""
    if isinstance(reference, str):
        return reference
    kind, target = next(iter(reference.items()))
    if kind == "Fn::GetAtt":
        return str(target[0])
    return str(target)
