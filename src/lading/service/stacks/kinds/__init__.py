"""Types of resources: how each is made, changed and deleted through AWS's APIs. One family a file."""
