"""Is a published number what its weights give here?"""
