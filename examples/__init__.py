"""Programs that show how to work with the API; they know it over HTTP only."""
