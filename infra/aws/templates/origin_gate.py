"""The gate of an origin: nobody but CloudFront reaches its load balancer. One stack in the region of each origin.

Two locks, because each alone has a way around. The prefix list lets in every distribution of CloudFront, also a
stranger's in front of our load balancer; the header is known to ours alone, but would be asked for only after the
connection and the request had been taken. Not a VPC origin, which would need neither: it takes no origin-side
Lambda@Edge, and the handlers there are what keeps a lagging replica from answering.
"""

from __future__ import annotations

from typing import Any

from cache_policies.fields import EDGE_KEY_FIELD

HTTPS_PORT = 443


def origin_gate_template() -> dict[str, Any]:
    """The whole stack; the same for all policies."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Gate of an origin of a nearshelf shop: only CloudFront with the edge key gets through",
        "Parameters": {
            "VpcId": {"Type": "AWS::EC2::VPC::Id", "Description": "VPC of the load balancer."},
            "CloudFrontPrefixList": {
                "Type": "String",
                "AllowedPattern": "pl-[0-9a-f]+",
                "Description": (
                    "Id, in this region, of the managed prefix list com.amazonaws.global.cloudfront.origin-facing "
                    "(aws ec2 describe-managed-prefix-lists). It counts as 55 rules of the 60 that a group may have."
                ),
            },
            "ListenerArn": {"Type": "String", "Description": "HTTPS listener of the load balancer."},
            "TargetGroupArn": {"Type": "String", "Description": "Target group of the origin's servers."},
            "EdgeKeySecret": {
                "Type": "String",
                "Description": (
                    "Name or ARN, in this region, of the secret with the edge key that the distribution sends. At most "
                    "128 letters and digits: the load balancer takes * and ? for wildcards and ignores case."
                ),
            },
            "ForwardPriority": {
                "Type": "Number",
                "Default": 1,
                "MinValue": 1,
                "MaxValue": 49999,
                "Description": "Priority of the rule that forwards; before every rule that is open to all.",
            },
            "RefusePriority": {
                "Type": "Number",
                "Default": 2,
                "MinValue": 2,
                "MaxValue": 50000,
                "Description": "Priority of the rule that refuses everything else: right after the other.",
            },
        },
        "Resources": {
            "OnlyCloudFront": {
                "Type": "AWS::EC2::SecurityGroup",
                "Properties": {
                    "GroupDescription": "HTTPS from CloudFront only",
                    "VpcId": {"Ref": "VpcId"},
                    "SecurityGroupIngress": [
                        {
                            "Description": "CloudFront origin-facing",
                            "IpProtocol": "tcp",
                            "FromPort": HTTPS_PORT,
                            "ToPort": HTTPS_PORT,
                            "SourcePrefixListId": {"Ref": "CloudFrontPrefixList"},
                        }
                    ],
                },
            },
            "WithTheEdgeKey": {
                "Type": "AWS::ElasticLoadBalancingV2::ListenerRule",
                "Properties": {
                    "ListenerArn": {"Ref": "ListenerArn"},
                    "Priority": {"Ref": "ForwardPriority"},
                    "Conditions": [
                        {
                            "Field": "http-header",
                            "HttpHeaderConfig": {
                                "HttpHeaderName": EDGE_KEY_FIELD,
                                "Values": [{"Fn::Sub": "{{resolve:secretsmanager:${EdgeKeySecret}}}"}],
                            },
                        }
                    ],
                    "Actions": [{"Type": "forward", "TargetGroupArn": {"Ref": "TargetGroupArn"}}],
                },
            },
            "WithoutTheEdgeKey": {
                "Type": "AWS::ElasticLoadBalancingV2::ListenerRule",
                "Properties": {
                    "ListenerArn": {"Ref": "ListenerArn"},
                    "Priority": {"Ref": "RefusePriority"},
                    "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["*"]}}],
                    "Actions": [
                        {
                            "Type": "fixed-response",
                            "FixedResponseConfig": {
                                "StatusCode": "403",
                                "ContentType": "text/plain",
                                "MessageBody": "Forbidden: this address is for the edge only\n",
                            },
                        }
                    ],
                },
            },
        },
        "Outputs": {
            "SecurityGroupId": {
                "Description": "Attach to the load balancer as its only group.",
                "Value": {"Fn::GetAtt": ["OnlyCloudFront", "GroupId"]},
            }
        },
    }
