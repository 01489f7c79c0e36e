"""AWS's API as data: parse, validate and serialize requests from botocore's service models. Knows no operation by name."""
