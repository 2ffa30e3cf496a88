"""What a person edits or asks: mix recipes, prompt wordings, audits. Installed as cslm_manifests."""
