"""What a person edits or asks: mix recipes, prompts, audits. Installed as cslm_manifests."""
