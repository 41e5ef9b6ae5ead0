"""The commands of lipsync-avatar.

Each imports what it needs when it runs: ONNX takes a second to import, and --help should not.
"""
