"""YAML text to JSON text. Reads its indentation from the environment that the template sets."""

import json
import os

import yaml


def handler(event, context):
    return {"json": json.dumps(yaml.safe_load(event["yaml"]), indent=int(os.environ["INDENT"]), sort_keys=True)}
