"""Dynamic references of templates: values from SSM and Secrets Manager (CloudFormation User Guide, "Dynamic references")."""

from __future__ import annotations

import json

from lading.service.stacks.refusal import invalid
from lading.service.stacks.site import Site


def resolve_dynamic(site: Site, service: str, reference: str) -> str:
    """`ssm:NAME[:VERSION]`, `secretsmanager:ID[:SecretString[:KEY[:STAGE[:VERSION]]]]`. Raises ApiError."""
    from botocore.exceptions import ClientError

    try:
        if service != "secretsmanager":
            name = reference.split(":")[0] if not reference.startswith("arn:") else reference
            version = reference.partition(":")[2] if name != reference else ""
            found = site.call(
                "ssm", "get_parameter", Name=f"{name}:{version}" if version else name, WithDecryption=True
            )
            return str(found["Parameter"]["Value"])
        parts = reference.split(":")
        secret, rest = (":".join(parts[:7]), parts[7:]) if reference.startswith("arn:") else (parts[0], parts[1:])
        _, key, stage, version = (*rest, "", "", "", "")[:4]
        found = site.call(
            "secretsmanager", "get_secret_value", SecretId=secret, VersionStage=stage or None, VersionId=version or None
        )
        text = str(found.get("SecretString", ""))
        return str(json.loads(text)[key]) if key else text
    except ClientError as error:
        raise invalid(f"Could not resolve {{{{resolve:{service}:{reference}}}}}: {error}") from None
    except (ValueError, KeyError, TypeError):
        raise invalid(f"Could not find a value associated with JSONKey in SecretString: {reference}") from None
