"""Asynchronous invokes: accepted events, their retries, and the records of how they ended. At least once: an event is
removed when its outcome is known, so a kill between a function's end and that removal delivers it again; an event whose
removal is committed never is."""
