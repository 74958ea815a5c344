//! Text to tokens. Whether a slash divides or begins a regular expression the parser knows.

use crate::SyntaxError;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    End,
    Text(String),
    Number(f64),
    Name(String),
    Variable(String),
    True,
    False,
    Null,
    Operator(&'static str),
    Regex { pattern: String, flags: String },
}

/// Longer ones first.
const OPERATORS: [&str; 35] = [
    "..", ":=", "!=", ">=", "<=", "**", "~>", "?:", "??", ".", "[", "]", "{", "}", "(", ")", ",",
    "@", "#", ";", ":", "?", "+", "-", "*", "/", "%", "|", "=", "<", ">", "^", "&", "!", "~",
];

pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Where the last token begins.
    pub started: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            started: 0,
        }
    }

    /// Bytes from the beginning.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What was read from there to the token that comes.
    pub fn between(&self, from: usize) -> &'a str {
        self.text.get(from..self.at.saturating_sub(1)).unwrap_or("")
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, what: impl Into<String>) -> SyntaxError {
        SyntaxError {
            position: self.at,
            reason: what.into(),
        }
    }

    /// The next token; `operand` tells that a value is expected, so that a slash begins a regular
    /// expression.
    pub fn next(&mut self, operand: bool) -> Result<Token, SyntaxError> {
        self.skip()?;
        self.started = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        match first {
            '/' if operand => self.regex(),
            '"' | '\'' => self.text(first),
            '0'..='9' => self.number(),
            '`' => {
                let Some(end) = rest[1..].find('`') else {
                    return Err(self.error("a name in backticks has no end"));
                };
                self.at += end + 2;
                Ok(Token::Name(rest[1..=end].to_owned()))
            }
            _ => {
                let operators = OPERATORS.iter();
                if let Some(operator) = operators.copied().find(|known| rest.starts_with(known)) {
                    self.at += operator.len();
                    return Ok(Token::Operator(operator));
                }
                Ok(self.word())
            }
        }
    }

    fn skip(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}']);
            self.at += rest.len() - trimmed.len();
            let Some(comment) = trimmed.strip_prefix("/*") else {
                return Ok(());
            };
            let Some(end) = comment.find("*/") else {
                return Err(self.error("a comment has no end"));
            };
            self.at += end + 4;
        }
    }

    fn word(&mut self) -> Token {
        let ends = |c: char| " \t\n\r\u{b}.[]{}(),@#;:?+-*/%|=<>^&!~'\"".contains(c);
        let rest = self.rest();
        let end = rest.find(ends).unwrap_or(rest.len());
        let word = &rest[..end];
        self.at += end;
        if let Some(name) = word.strip_prefix('$') {
            return Token::Variable(name.to_owned());
        }
        match word {
            "and" => Token::Operator("and"),
            "or" => Token::Operator("or"),
            "in" => Token::Operator("in"),
            "true" => Token::True,
            "false" => Token::False,
            "null" => Token::Null,
            name => Token::Name(name.to_owned()),
        }
    }

    fn number(&mut self) -> Result<Token, SyntaxError> {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| {
            let digits = bytes[from..].iter();
            from + digits.take_while(|byte| byte.is_ascii_digit()).count()
        };
        let mut end = if bytes[0] == b'0' { 1 } else { digits(0) };
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > end + 1 {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let from = end + 1 + sign;
            if from <= bytes.len() && digits(from) > from {
                end = digits(from);
            }
        }
        let number: f64 = self.rest()[..end]
            .parse()
            .map_err(|_| self.error("this is no number"))?;
        if !number.is_finite() {
            return Err(self.error("the number is out of range"));
        }
        self.at += end;
        Ok(Token::Number(number))
    }

    fn text(&mut self, quote: char) -> Result<Token, SyntaxError> {
        let mut units: Vec<u16> = Vec::new();
        let mut chars = self.rest()[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            let escaped = match c {
                _ if c == quote => {
                    self.at += at + 2;
                    return match String::from_utf16(&units) {
                        Ok(text) => Ok(Token::Text(text)),
                        Err(_) => Err(self.error("half of a pair of \\u escapes")),
                    };
                }
                '\\' => chars.next().map(|(_, c)| c),
                c => {
                    units.extend(c.encode_utf16(&mut [0; 2]).iter());
                    continue;
                }
            };
            let plain = match escaped {
                Some(c @ ('"' | '\'' | '\\' | '/')) => c,
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('u') => {
                    let digits = chars.as_str().get(..4);
                    let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
                    let Some(unit) = unit else {
                        return Err(self.error("\\u needs four hexadecimal digits"));
                    };
                    units.push(unit);
                    chars.nth(3);
                    continue;
                }
                _ => return Err(self.error("no such escape in a text")),
            };
            units.extend(plain.encode_utf16(&mut [0; 2]).iter());
        }
        Err(self.error("a text has no end"))
    }

    fn regex(&mut self) -> Result<Token, SyntaxError> {
        let body = &self.rest()[1..];
        let mut open = 0_i32;
        let mut escaped = false;
        for (at, c) in body.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '/' if open <= 0 => {
                    if at == 0 {
                        return Err(self.error("a regular expression is empty"));
                    }
                    let flags: String = body[at + 1..]
                        .chars()
                        .take_while(|c| matches!(c, 'i' | 'm'))
                        .collect();
                    let pattern = body[..at].to_owned();
                    self.at += at + 2 + flags.len();
                    return Ok(Token::Regex { pattern, flags });
                }
                '(' | '[' | '{' => open += 1,
                ')' | ']' | '}' => open -= 1,
                _ => {}
            }
        }
        Err(self.error("a regular expression has no end"))
    }
}
