"""From a project to artifacts: plan (pure), then run. Zip and layer are views of the same prepared bundles."""
