"""Results for people: tables in the terminal, one HTML page, Markdown, tidy CSV and figures for papers."""
