"""What build-mix is made of: recipe, held-out splits, candidates, selection, plan, files."""
