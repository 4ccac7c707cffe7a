"""The public functions of `import guidino_cli`."""
