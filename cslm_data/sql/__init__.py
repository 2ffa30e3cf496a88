"""The SQL that the program runs, one statement or view set per file."""
