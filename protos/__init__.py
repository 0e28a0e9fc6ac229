"""Wire formats of Lockstep: .proto files with their generated stubs beside them."""
