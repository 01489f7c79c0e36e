"""From a project and its artifacts to AWS: plan, show, apply. AWS is the state; nothing is kept here."""
