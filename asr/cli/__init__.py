"""The command line: `asr COMMAND key=value ...`, one module per command."""
