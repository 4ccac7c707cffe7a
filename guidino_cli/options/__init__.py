"""Options of commands, each declared once; see `cli.dataclass_options` for how a command reads them."""
