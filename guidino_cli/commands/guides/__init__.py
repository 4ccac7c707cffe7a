"""Pictures, pages and tables of guides: the parts of `guidino visualize-guide`."""
