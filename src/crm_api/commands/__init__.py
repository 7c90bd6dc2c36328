"""What `crm-api` does, a file for each errand; imported when its command runs, so that --help is quick."""
