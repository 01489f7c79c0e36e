"""The transform AWS::Serverless-2016-10-31, by AWS's own translator, which is loaded at its first use."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Mapping
from typing import Any

from lading.service.stacks.refusal import invalid
from lading.service.stacks.site import Site

NAME = "AWS::Serverless-2016-10-31"
_LOCK = threading.Lock()
"""The translator keeps its region in a class."""


def expand_serverless(site: Site, document: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A template without SAM's resources. Raises ApiError for what the translator refuses."""
    try:
        from boto3.session import Session
        from samtranslator.model.exceptions import InvalidDocumentException
        from samtranslator.parser.parser import Parser
        from samtranslator.translator.translator import Translator
        from samtranslator.utils.py27hash_fix import to_py27_compatible_template, undo_mark_unicode_str_in_template
    except ImportError:
        raise invalid(
            f"No transform named {NAME} found: lading's local service expands it with aws-sam-translator, which is not "
            "installed where it runs; pip install 'lading[sam]'"
        ) from None
    given, parameters = copy.deepcopy(document), dict(values)
    with _LOCK:
        try:
            to_py27_compatible_template(given, parameters)
            translator = Translator(None, Parser(), boto_session=Session(region_name=site.scope.region))
            made = translator.translate(given, parameters, get_managed_policy_map=lambda: _managed_policies(site))
            translator.metrics.publish()  # to nobody; it complains where that is left out
            # Through JSON: what the translator leaves are values of its own types.
            plain: dict[str, Any] = json.loads(json.dumps(undo_mark_unicode_str_in_template(made)))
        except InvalidDocumentException as error:
            causes = " ".join(str(cause.message) for cause in error.causes)
            raise invalid(f"Transform {NAME} failed with: {error.message} {causes}".rstrip()) from None
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise invalid(f"Transform {NAME} failed with: {type(error).__name__}: {error}") from None
    return plain


def _managed_policies(site: Site) -> dict[str, str]:
    """AWS's managed policies by name; asked for when one isn't among those that the translator knows."""
    found: dict[str, str] = {}
    marker = None
    while True:
        page = site.call("iam", "list_policies", Scope="AWS", MaxItems=1000, Marker=marker)
        found |= {policy["PolicyName"]: policy["Arn"] for policy in page["Policies"]}
        marker = page.get("Marker")
        if not page.get("IsTruncated") or not marker:
            return found
