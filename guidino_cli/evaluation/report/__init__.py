"""Reports of an evaluation: CSV and JSON files, text tables, one HTML page."""
