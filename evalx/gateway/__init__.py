"""The HTTP front: takes submissions, produces them, and answers with their results. Judges nothing itself."""
