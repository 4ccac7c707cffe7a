"""The functions of `import guidino_cli`, one module for what each is about."""
