"""Tests of what other systems follow: the change feed and webhooks."""
