"""What the neighbours' services invoke functions for: objects, messages, events, schedules, log lines. moto knows none of this
service's functions, so what it would hand to its own is handed to the queue of asynchronous events."""
