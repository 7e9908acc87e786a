"""What people get of a run: one page without a network or a script, and files for spreadsheets and CI."""
