"""CloudFormation: stacks of this service's functions and the neighbours' resources. In memory, as those are."""
