"""Google: the Gemini API over google-genai, and Gemini's messages."""
