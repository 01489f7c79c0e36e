"""A friendly reminder. jinja2 comes from the layer that the invoice uses too."""

from jinja2 import Template

LETTER = Template(
    "Dear {{ customer }}, {{ '%.2f' | format(total) }} is open since {{ days }} day{{ '' if days == 1 else 's' }}."
)


def lambda_handler(event, context):
    return {"text": LETTER.render(**event)}
