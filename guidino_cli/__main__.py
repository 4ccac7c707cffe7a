"""`python -m guidino_cli`, and `accelerate launch -m guidino_cli`."""

from guidino_cli.cli import main

if __name__ == "__main__":
    main()
