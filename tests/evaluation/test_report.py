"""The report: what it says must follow from the numbers, and nothing in them may break the page."""
