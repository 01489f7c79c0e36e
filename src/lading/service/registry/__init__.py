"""ECR here: an OCI registry on the service's own port, and ECR's API over the same repositories. Runs no images."""
