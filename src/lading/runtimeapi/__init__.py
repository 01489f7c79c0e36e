"""Lambda's Runtime, Extensions and Telemetry API as values: one state table, no sockets, no clock, no processes.

Requests, invokes and ends of processes go in; replies and what they mean for the platform come out. May not do I/O.
"""
