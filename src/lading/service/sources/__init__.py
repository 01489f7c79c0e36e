"""Event source mappings at work: SQS queues, Kinesis and DynamoDB streams read for functions, in batches."""
