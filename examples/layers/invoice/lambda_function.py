"""An invoice as text. jinja2 and tabulate come from the layer."""

from jinja2 import Template
from tabulate import tabulate

PAGE = Template("Invoice for {{ customer }}\n\n{{ table }}\n\nTotal: {{ '%.2f' | format(total) }}\n")


def lambda_handler(event, context):
    lines = [(item["what"], item["price"]) for item in event["items"]]
    total = sum(price for _, price in lines)
    table = tabulate(lines, headers=("what", "price"), floatfmt=".2f")
    return {"text": PAGE.render(customer=event["customer"], table=table, total=total), "total": total}
