"""The projects that benchmarks build."""

from __future__ import annotations

RUNTIME = "python3.13"
VERSION = "3.13"
PLATFORM = "x86_64-manylinux_2_28"
"""The newest glibc that uv has a platform name for, at or below the runtime's 2.34."""

REQUIREMENTS = ("boto3", "pandas", "pydantic", "requests")

HANDLER = '''"""The benchmark's function."""

import boto3
import pandas
import pydantic
import requests


def lambda_handler(event, context):
    return {"pandas": pandas.__version__, "revision": 0}
'''

TEMPLATE = f"""AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  Bench:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Handler: lambda_function.lambda_handler
      Runtime: {RUNTIME}
      Architectures: [x86_64]
"""


def data_project() -> dict[str, str]:
    """pandas + requests + boto3 + pydantic, as a folder with requirements.txt."""
    return {"lambda_function.py": HANDLER, "requirements.txt": "\n".join(REQUIREMENTS) + "\n"}


def data_project_for_sam() -> dict[str, str]:
    """The same as SAM wants it."""
    return {
        **{f"src/{path}": text for path, text in data_project().items()},
        "template.yaml": TEMPLATE.replace("CodeUri: .", "CodeUri: src"),
    }


def many_functions(count: int) -> dict[str, str]:
    """A project of functions that all need the same packages, each with code of its own."""
    tables = [f'[tool.lading]\nruntime = "{RUNTIME}"\n']
    files = {"requirements.txt": "requests\npydantic\n"}
    for number in range(count):
        tables.append(
            f'[tool.lading.functions.f{number:02}]\nsource = "f{number:02}"\nrequirements = "requirements.txt"\n'
        )
        files[f"f{number:02}/lambda_function.py"] = (
            f"import pydantic\nimport requests\n\n\ndef lambda_handler(event, context):\n    return {number}\n"
        )
    return {**files, "pyproject.toml": "\n".join(tables)}
