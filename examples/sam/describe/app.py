"""What the function knows of itself: no requirements at all."""


def handler(event, context):
    return {"name": context.function_name, "memory": context.memory_limit_in_mb, "event_keys": sorted(event)}
