"""The inbox program: its C source, the linker that makes it loadable, and the committed result."""
