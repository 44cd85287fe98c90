"""Operations that change the address space."""
