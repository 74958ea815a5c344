//! Tokens to nodes, by binding powers, as the reference implementation has them.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    SyntaxError,
    ast::{Kind, Lambda, Name, Node, Operator, Stage, Term, Transform},
    functions,
    lexer::{Lexer, Token},
    paths::Slots,
    pattern::{MOST_PATTERNS, Pattern},
    signature::Signature,
};

/// Levels of nodes: `a & b & c` is two. Whatever walks an expression may recurse.
const DEEPEST_EXPRESSION: usize = 100;
/// Brackets within each other, and whatever else the parser calls itself for.
const DEEPEST_NESTING: usize = 64;

/// An expression, and the labels of its slots.
pub(crate) fn parse(text: &str) -> Result<(Node, Vec<Name>), SyntaxError> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        token: Token::End,
        depth: 0,
        patterns: 0,
        slots: Slots::default(),
        bound: BTreeSet::new(),
        used: BTreeSet::new(),
    };
    parser.advance(true)?;
    let root = parser.expression(0)?;
    if parser.token != Token::End {
        return Err(parser.unexpected());
    }
    if matches!(root.kind, Kind::Parent(_)) || !root.seeking.is_empty() {
        return Err(parser.error("`%` leads out of the expression"));
    }
    for name in parser.used.difference(&parser.bound) {
        if let Some(reason) = functions::refused(name) {
            return Err(parser.error(format!("${name} is not for rules: {reason}")));
        }
    }
    Ok((root, parser.slots.labels()))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
    depth: usize,
    patterns: usize,
    slots: Slots,
    /// Names of variables that are given values, and those that are asked for.
    bound: BTreeSet<String>,
    used: BTreeSet<String>,
}

type Parsed = Result<Node, SyntaxError>;

impl Parser<'_> {
    fn error(&self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError {
            position: self.lexer.started,
            reason: reason.into(),
        }
    }

    fn unexpected(&self) -> SyntaxError {
        match &self.token {
            Token::End => self.error("it ends too early"),
            Token::Operator(operator) => self.error(format!("`{operator}` cannot stand here")),
            _ => self.error("a value cannot stand here"),
        }
    }

    /// Gives the token away and reads the next one.
    fn advance(&mut self, operand: bool) -> Result<Token, SyntaxError> {
        let next = self.lexer.next(operand)?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.token, Token::Operator(is) if is == operator)
    }

    /// Passes over an operator, if it is there; an operand follows.
    fn take(&mut self, operator: &str) -> Result<bool, SyntaxError> {
        let there = self.is(operator);
        if there {
            self.advance(true)?;
        }
        Ok(there)
    }

    fn expect(&mut self, operator: &str, operand: bool) -> Result<(), SyntaxError> {
        if !self.is(operator) {
            let found = self.unexpected();
            return Err(self.error(format!("`{operator}` is missing: {}", found.reason)));
        }
        self.advance(operand).map(|_| ())
    }

    fn built(&self, kind: Kind) -> Parsed {
        self.checked(Node::new(kind))
    }

    fn checked(&self, node: Node) -> Parsed {
        if node.height > DEEPEST_EXPRESSION {
            let reason = format!("it is nested deeper than {DEEPEST_EXPRESSION} levels");
            return Err(self.error(reason));
        }
        Ok(node)
    }

    fn expression(&mut self, power: u8) -> Parsed {
        self.depth += 1;
        if self.depth > DEEPEST_NESTING {
            let reason = format!("it is nested deeper than {DEEPEST_NESTING} levels");
            return Err(self.error(reason));
        }
        let opens = matches!(self.token, Token::Operator(open) if ["(", "[", "{", "-", "|"].contains(&open));
        let token = self.advance(opens)?;
        let mut left = self.prefix(token)?;
        while power < self.power() {
            let Token::Operator(operator) = self.advance(true)? else {
                return Err(self.unexpected());
            };
            left = self.infix(operator, left)?;
            left = self.checked(left)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// How strongly the token binds what is left of it.
    fn power(&self) -> u8 {
        let Token::Operator(operator) = &self.token else {
            // Two values one behind the other: whoever waits for something else says so.
            return 0;
        };
        match *operator {
            "(" | "[" | "@" | "#" => 80,
            "." => 75,
            "{" => 70,
            "*" | "/" | "%" => 60,
            "+" | "-" | "&" => 50,
            "=" | "!=" | "<" | "<=" | ">" | ">=" | "^" | "~>" | "in" | "?:" | "??" => 40,
            "and" => 30,
            "or" => 25,
            "?" => 20,
            ":=" => 10,
            _ => 0,
        }
    }

    fn prefix(&mut self, token: Token) -> Parsed {
        match token {
            Token::Text(text) => self.built(Kind::Text(text.into())),
            Token::Number(number) => self.built(Kind::Number(number)),
            Token::True => self.built(Kind::Bool(true)),
            Token::False => self.built(Kind::Bool(false)),
            Token::Null => self.built(Kind::Null),
            Token::Name(name) => Ok(Node::path(self.built(Kind::Name(name.into()))?)),
            Token::Variable(name) => {
                self.used.insert(name.clone());
                self.built(Kind::Variable(name.into()))
            }
            Token::Regex { pattern, flags } => {
                self.patterns += 1;
                if self.patterns > MOST_PATTERNS {
                    let reason = format!("it has more than {MOST_PATTERNS} regular expressions");
                    return Err(self.error(reason));
                }
                let pattern =
                    Pattern::new(&pattern, &flags).map_err(|reason| self.error(reason))?;
                self.built(Kind::Regex(Arc::new(pattern)))
            }
            Token::Operator(operator) => self.prefix_operator(operator),
            Token::End => Err(self.unexpected()),
        }
    }

    fn prefix_operator(&mut self, operator: &'static str) -> Parsed {
        match operator {
            "and" | "or" | "in" => Ok(Node::path(self.built(Kind::Name(operator.into()))?)),
            "*" => self.built(Kind::Wildcard),
            "**" => self.built(Kind::Descendants),
            "%" => {
                let slot = self.slots.open();
                let slot = slot.map_err(|reason| self.error(reason))?;
                self.built(Kind::Parent(slot))
            }
            "-" => self.negation(),
            "(" => self.block(),
            "[" => self.array(),
            "{" => self.object(),
            "|" => self.transform(),
            operator => Err(self.error(format!("`{operator}` cannot stand here"))),
        }
    }

    fn negation(&mut self) -> Parsed {
        let operand = self.expression(70)?;
        if let Kind::Number(number) = operand.kind {
            return self.built(Kind::Number(-number));
        }
        let seeking = self.slots.sought_by(&operand);
        let mut node = self.built(Kind::Negate(Box::new(operand)))?;
        node.seeking = seeking;
        Ok(node)
    }

    fn object(&mut self) -> Parsed {
        let pairs = self.pairs()?;
        let inner = pairs.iter().flat_map(|(key, value)| [key, value]);
        let seeking = inner.flat_map(|node| self.slots.sought_by(node)).collect();
        let mut node = self.built(Kind::Object(pairs))?;
        node.seeking = seeking;
        Ok(node)
    }

    fn transform(&mut self) -> Parsed {
        let location = self.expression(0)?;
        self.expect("|", true)?;
        let update = self.expression(0)?;
        let delete = match self.take(",")? {
            true => Some(self.expression(0)?),
            false => None,
        };
        self.expect("|", false)?;
        self.built(Kind::Transform(Arc::new(Transform {
            location,
            update,
            delete,
        })))
    }

    fn block(&mut self) -> Parsed {
        let mut parts = Vec::new();
        while !self.is(")") {
            parts.push(self.expression(0)?);
            if !self.take(";")? {
                break;
            }
        }
        self.expect(")", false)?;
        let seeking = parts.iter().flat_map(|part| self.slots.sought_by(part));
        let seeking = seeking.collect();
        let constructs = |part: &Node| match &part.kind {
            Kind::Path(path) => path.steps[0].cons_array,
            _ => part.cons_array,
        };
        let cons_array = parts.iter().any(constructs);
        let mut node = self.built(Kind::Block(parts))?;
        (node.seeking, node.cons_array) = (seeking, cons_array);
        Ok(node)
    }

    fn array(&mut self) -> Parsed {
        let mut items = Vec::new();
        while !self.is("]") {
            let mut item = self.expression(0)?;
            if self.take("..")? {
                let to = self.expression(0)?;
                item = self.binary(Operator::Range, item, to)?;
            }
            items.push(item);
            if !self.take(",")? {
                break;
            }
        }
        self.expect("]", false)?;
        let seeking = items.iter().flat_map(|item| self.slots.sought_by(item));
        let seeking = seeking.collect();
        let mut node = self.built(Kind::Array(items))?;
        node.seeking = seeking;
        Ok(node)
    }

    fn pairs(&mut self) -> Result<Vec<(Node, Node)>, SyntaxError> {
        let mut pairs = Vec::new();
        while !self.is("}") {
            let key = self.expression(0)?;
            self.expect(":", true)?;
            pairs.push((key, self.expression(0)?));
            if !self.take(",")? {
                break;
            }
        }
        self.expect("}", false)?;
        Ok(pairs)
    }

    fn binary(&mut self, operator: Operator, left: Node, right: Node) -> Parsed {
        let mut seeking = self.slots.sought_by(&left);
        seeking.extend(self.slots.sought_by(&right));
        let mut node = self.built(Kind::Binary(operator, Box::new(left), Box::new(right)))?;
        node.seeking = seeking;
        Ok(node)
    }

    fn infix(&mut self, operator: &'static str, left: Node) -> Parsed {
        let plain = match operator {
            "+" => Some((Operator::Add, 50)),
            "-" => Some((Operator::Subtract, 50)),
            "*" => Some((Operator::Multiply, 60)),
            "/" => Some((Operator::Divide, 60)),
            "%" => Some((Operator::Remainder, 60)),
            "=" => Some((Operator::Equal, 40)),
            "!=" => Some((Operator::Unequal, 40)),
            "<" => Some((Operator::Less, 40)),
            "<=" => Some((Operator::LessOrEqual, 40)),
            ">" => Some((Operator::Greater, 40)),
            ">=" => Some((Operator::GreaterOrEqual, 40)),
            "and" => Some((Operator::And, 30)),
            "or" => Some((Operator::Or, 25)),
            "in" => Some((Operator::In, 40)),
            "&" => Some((Operator::Concatenate, 50)),
            _ => None,
        };
        if let Some((operator, power)) = plain {
            return self.operation(operator, power, left);
        }
        match operator {
            "." => self.joined(left),
            "[" => self.predicate(left),
            "{" => self.grouped(left),
            "(" => self.call(left),
            "@" | "#" => self.binding(operator, left),
            "^" => self.sort(left),
            "?" => self.condition(left),
            "?:" | "??" => self.otherwise(operator, left),
            ":=" => self.assignment(left),
            "~>" => self.chain(left),
            operator => Err(self.error(format!("`{operator}` cannot stand here"))),
        }
    }

    fn operation(&mut self, operator: Operator, power: u8, left: Node) -> Parsed {
        let right = self.expression(power)?;
        self.binary(operator, left, right)
    }

    fn joined(&mut self, left: Node) -> Parsed {
        let right = self.expression(75)?;
        let joined = self.slots.join(left, right);
        joined.map_err(|reason| self.error(reason))
    }

    fn grouped(&mut self, left: Node) -> Parsed {
        let mut node = left;
        if node.group.is_some() {
            return Err(self.error("it is grouped already"));
        }
        let pairs = self.pairs()?;
        let inner = pairs.iter().flat_map(|(key, value)| [key, value]);
        let highest = inner.map(|child| child.height).max().unwrap_or(0);
        node.height = node.height.max(highest + 1);
        node.group = Some(pairs);
        Ok(node)
    }

    fn condition(&mut self, left: Node) -> Parsed {
        let then = self.expression(0)?;
        let otherwise = match self.take(":")? {
            true => Some(Box::new(self.expression(0)?)),
            false => None,
        };
        let parts = [&left, &then].into_iter().chain(otherwise.as_deref());
        let seeking = parts.flat_map(|part| self.slots.sought_by(part)).collect();
        let kind = Kind::Condition(Box::new(left), Box::new(then), otherwise);
        let mut node = self.built(kind)?;
        node.seeking = seeking;
        Ok(node)
    }

    fn otherwise(&mut self, operator: &str, left: Node) -> Parsed {
        let right = self.expression(0)?;
        let mut seeking = self.slots.sought_by(&left);
        seeking.extend(self.slots.sought_by(&right));
        let (left, right) = (Box::new(left), Box::new(right));
        let mut node = self.built(match operator {
            "?:" => Kind::Elvis(left, right),
            _ => Kind::Coalesce(left, right),
        })?;
        node.seeking = seeking;
        Ok(node)
    }

    fn assignment(&mut self, left: Node) -> Parsed {
        let name = match left.kind {
            Kind::Variable(name) if left.predicates.is_empty() => name,
            _ => return Err(self.error("only a $variable can be given a value")),
        };
        self.bound.insert(name.to_string());
        let value = self.expression(9)?;
        let seeking = self.slots.sought_by(&value);
        let mut node = self.built(Kind::Bind(name, Box::new(value)))?;
        node.seeking = seeking;
        Ok(node)
    }

    fn chain(&mut self, left: Node) -> Parsed {
        let right = self.expression(40)?;
        let keep_array = left.keep_array || right.keep_array;
        let mut node = self.built(Kind::Chain(Box::new(left), Box::new(right)))?;
        node.keep_array = keep_array;
        Ok(node)
    }

    fn predicate(&mut self, left: Node) -> Parsed {
        let mut node = left;
        if self.is("]") {
            self.advance(false)?;
            node.last_step().keep_array = true;
            if let Kind::Path(path) = &mut node.kind {
                path.keep_singleton = true;
            }
            return Ok(node);
        }
        let filter = self.expression(0)?;
        self.expect("]", false)?;
        let is_path = matches!(node.kind, Kind::Path(_));
        let height = node.height.max(filter.height + 2);
        let step = node.last_step();
        if step.group.is_some() {
            return Err(self.error("a filter cannot follow a group"));
        }
        let sought = self.slots.sought_by(&filter);
        for slot in &filter.seeking {
            if self.slots.level(*slot) == 1 {
                let found = self.slots.seek(step, *slot);
                found.map_err(|reason| self.error(reason))?;
            } else {
                self.slots.outwards(*slot);
            }
        }
        step.seeking.extend(sought);
        if is_path {
            step.stages.push(Stage::Filter(filter));
        } else {
            step.predicates.push(filter);
        }
        node.height = height;
        Ok(node)
    }

    fn call(&mut self, function: Node) -> Parsed {
        let mut arguments = Vec::new();
        let mut partial = false;
        while !self.is(")") {
            if self.is("?") {
                self.advance(false)?;
                partial = true;
                arguments.push(self.built(Kind::Placeholder)?);
            } else {
                arguments.push(self.expression(0)?);
            }
            if !self.take(",")? {
                break;
            }
        }
        self.expect(")", false)?;
        let is_lambda = match &function.kind {
            Kind::Path(path) if path.steps.len() == 1 => {
                matches!(&path.steps[0].kind, Kind::Name(name) if matches!(&**name, "function" | "λ"))
            }
            _ => false,
        };
        if is_lambda {
            return self.lambda(arguments);
        }
        let seeking = arguments
            .iter()
            .flat_map(|argument| self.slots.sought_by(argument))
            .collect();
        let function = Box::new(function);
        let mut node = self.built(match partial {
            true => Kind::Partial(function, arguments),
            false => Kind::Call(function, arguments),
        })?;
        node.seeking = seeking;
        Ok(node)
    }

    fn lambda(&mut self, arguments: Vec<Node>) -> Parsed {
        let mut parameters = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let Kind::Variable(name) = argument.kind else {
                return Err(self.error("a parameter has to be a $variable"));
            };
            self.bound.insert(name.to_string());
            parameters.push(name);
        }
        let mut signature = None;
        if self.is("<") {
            let from = self.lexer.position();
            let mut open = 1;
            while open > 0 {
                self.advance(false)?;
                match &self.token {
                    Token::Operator("<") => open += 1,
                    Token::Operator(">") => open -= 1,
                    Token::End | Token::Operator("{") => return Err(self.unexpected()),
                    _ => {}
                }
            }
            let text = self.lexer.between(from);
            let read = Signature::parse(text).map_err(|reason| self.error(reason))?;
            signature = Some(read);
            self.expect(">", false)?;
        }
        self.expect("{", true)?;
        let body = self.expression(0)?;
        self.expect("}", false)?;
        self.built(Kind::Lambda(Arc::new(Lambda {
            parameters,
            signature,
            body,
        })))
    }

    fn binding(&mut self, operator: &str, left: Node) -> Parsed {
        let Kind::Variable(name) = self.expression(80)?.kind else {
            return Err(self.error(format!("a $variable has to follow `{operator}`")));
        };
        self.bound.insert(name.to_string());
        let mut node = left;
        let is_path = matches!(node.kind, Kind::Path(_));
        let step = node.last_step();
        if operator == "@" {
            if !step.stages.is_empty() || !step.predicates.is_empty() {
                return Err(self.error("`@` has to stand before filters"));
            }
            if matches!(step.kind, Kind::Sort(_)) {
                return Err(self.error("`@` cannot follow a sort"));
            }
            step.focus = Some(name);
            step.tuple = true;
            return Ok(node);
        }
        if !is_path {
            let filters = std::mem::take(&mut step.predicates);
            step.stages = filters.into_iter().map(Stage::Filter).collect();
        }
        if step.stages.is_empty() {
            step.index = Some(name);
        } else {
            step.stages.push(Stage::Index(name));
        }
        step.tuple = true;
        if is_path {
            return Ok(node);
        }
        Ok(Node::path(node))
    }

    fn sort(&mut self, left: Node) -> Parsed {
        self.expect("(", true)?;
        let mut terms = Vec::new();
        loop {
            let descending = self.is(">");
            if descending || self.is("<") {
                self.advance(true)?;
            }
            let by = self.expression(0)?;
            terms.push(Term { by, descending });
            if !self.take(",")? {
                break;
            }
        }
        self.expect(")", false)?;
        let seeking = terms.iter().flat_map(|term| self.slots.sought_by(&term.by));
        let seeking = seeking.collect();
        let mut step = self.built(Kind::Sort(terms))?;
        step.seeking = seeking;
        self.slots
            .append(left, step)
            .map_err(|reason| self.error(reason))
    }
}
