"""The command line: parse, call, print. Installed as the package cslm_cli."""
