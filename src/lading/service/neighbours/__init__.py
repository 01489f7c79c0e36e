"""The AWS services beside Lambda: moto's, in this process, started on first use and kept in memory; or other endpoints."""
