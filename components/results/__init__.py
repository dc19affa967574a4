"""What a study leaves: documents, histories, tables over many runs, and where the numbers come from."""
