"""`python -m crm_api` is the `crm-api` command."""

from crm_api.cli import main

if __name__ == "__main__":  # server processes import this module again
    main()
