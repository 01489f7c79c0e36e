"""A CDK app in Python: the template of `cloudformation` included, its artifacts as the CDK's assets."""

from __future__ import annotations

import json
from pathlib import Path

from lading.deploy.export.cloudformation import (
    FILE,
    artifacts,
    build_template,
    relative,
    sha256_of,
    write_template,
)
from lading.deploy.export.portable import Exported, Portable, identifier
from lading.deploy.export.template import BUCKET

_APP = '''\
"""Made by `lading export cdk`: what was built, deployed by the CDK."""

from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_s3_assets as assets
from aws_cdk import cloudformation_include as include
from constructs import Construct

HERE = Path(__file__).parent
ARTIFACTS = {artifacts}
"""Parameter of the template -> artifact and its SHA-256."""


class {stack}(cdk.Stack):
    def __init__(self, scope: Construct, name: str, **options) -> None:
        super().__init__(scope, name, **options)
        parameters = {{}}
        for key, (path, digest) in ARTIFACTS.items():
            kind = cdk.AssetHashType.CUSTOM
            asset = assets.Asset(self, f"{{key}}Asset", path=str(HERE / path), asset_hash=digest, asset_hash_type=kind)
            parameters |= {{"{bucket}": asset.s3_bucket_name, key: asset.s3_object_key}}
        self.included = include.CfnInclude(
            self, "Template", template_file=str(HERE / "{file}"), parameters=parameters
        )


app = cdk.App()
{stack}(app, "{name}")
app.synth()
'''


def export(portable: Portable, folder: Path) -> Exported:
    """`app.py`, `cdk.json`, `requirements.txt` and the template they include."""
    template = build_template(portable)
    keys = {
        template.names(name, "Key"): (relative(package.path, folder), sha256_of(package))
        for name, package in portable.packages.items()
        if not package.image
    }
    project = portable.project.deployment.project
    stack = identifier("stack", project)
    table = "\n".join(f"    {key!r}: {value!r}," for key, value in keys.items())
    text = _APP.format(
        artifacts=f"{{\n{table}\n}}" if keys else "{}",
        stack=stack,
        bucket=BUCKET,
        file=FILE,
        name="-".join(filter(None, (project, portable.project.deployment.stage))),
    )
    files = {
        "app.py": text,
        "cdk.json": json.dumps({"app": "python3 app.py"}, indent=2) + "\n",
        "requirements.txt": "aws-cdk-lib>=2.150\nconstructs>=10\n",
        FILE: write_template(template, metadata=artifacts(portable, folder)),
    }
    return Exported(files, tuple(template.notes))
