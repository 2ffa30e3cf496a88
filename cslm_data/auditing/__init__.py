"""Audits: `.sql` files asked of a workspace, what they find, and the page that shows it."""
