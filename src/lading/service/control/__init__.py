"""Operations on functions, versions, aliases, layers and what belongs to them: one file per family. Knows no HTTP."""
