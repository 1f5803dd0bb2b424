"""Who the bearer of a JWT is: JSON Web Tokens of one issuer, instead of API keys of ours (ADR 28).

issuer    the issuer's public keys: fetched in the background, kept, and asked for again
jwks      a document with public keys, and which of them may check a signature
bearers   checks JWTs and remembers those that are good
claims    the tenant and the plan that the claims of a JWT say
"""
