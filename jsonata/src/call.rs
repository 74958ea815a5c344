//! Functions: calls, tail calls without depth, partial application, chains, transforms.

use std::{collections::HashMap, rc::Rc};

use crate::{
    ast::{Kind, Node, Transform},
    functions,
    run::{Evaluated, Run},
    value::{Fields, Frame, Function, Object, Value},
};

/// What a function's body comes to: a value, or the call that is its last act.
enum Outcome {
    Value(Value),
    Call {
        function: Value,
        arguments: Vec<Value>,
        input: Value,
    },
}

impl Run<'_> {
    pub fn call(
        &mut self,
        function: &Node,
        arguments: &[Node],
        first: Option<Value>,
        input: &Value,
        frame: Frame,
    ) -> Evaluated {
        let (function, arguments) = self.prepared(function, arguments, first, input, frame)?;
        self.apply(function, arguments, input)
    }

    fn prepared(
        &mut self,
        function: &Node,
        arguments: &[Node],
        first: Option<Value>,
        input: &Value,
        frame: Frame,
    ) -> Evaluated<(Value, Vec<Value>)> {
        let called = self.evaluate(function, input, frame)?;
        if !called.is_function() {
            return Err(self.failed(format!("{} is no function", name_of(function))));
        }
        self.room(arguments.len() + 1)?;
        let mut given = Vec::with_capacity(arguments.len() + 1);
        given.extend(first);
        for argument in arguments {
            let value = self.evaluate(argument, input, frame)?;
            given.push(self.plain(value)?);
        }
        Ok((called, given))
    }

    pub fn apply(&mut self, function: Value, arguments: Vec<Value>, input: &Value) -> Evaluated {
        self.within(|run| run.with_frames(|run| run.apply_here(function, arguments, input.clone())))
    }

    fn apply_here(&mut self, function: Value, arguments: Vec<Value>, input: Value) -> Evaluated {
        let (mut function, mut arguments, mut input) = (function, arguments, input);
        loop {
            self.budget.steps(1)?;
            let applied = match &function {
                Value::Native(native) => {
                    let fitted = native.signature().fit(self, arguments, &input)?;
                    return (native.implementation)(self, &fitted, &input);
                }
                Value::Function(function) => Rc::clone(function),
                other => {
                    let what = other.type_name();
                    return Err(self.failed(format!("{what} cannot be called")));
                }
            };
            match &*applied {
                Function::Lambda {
                    lambda,
                    input: context,
                    frame,
                } => {
                    let arguments_fit = match &lambda.signature {
                        Some(signature) => signature.fit(self, arguments, &input)?,
                        None => arguments,
                    };
                    let outcome = self.with_frames(|run| {
                        let inner = run.frame(*frame)?;
                        let mut given = arguments_fit.into_iter();
                        for parameter in &lambda.parameters {
                            let value = given.next().unwrap_or(Value::Undefined);
                            run.bind(inner, parameter, value)?;
                        }
                        run.body(&lambda.body, context, inner)
                    })?;
                    match outcome {
                        Outcome::Value(value) => return Ok(value),
                        Outcome::Call {
                            function: next,
                            arguments: given,
                            input: context,
                        } => (function, arguments, input) = (next, given, context),
                    }
                }
                Function::Partial {
                    function: next,
                    arguments: given,
                    ..
                } => {
                    self.room(given.len())?;
                    let mut rest = arguments.into_iter();
                    let filled = given.iter().map(|given| match given {
                        Some(value) => value.clone(),
                        None => rest.next().unwrap_or(Value::Undefined),
                    });
                    arguments = filled.collect();
                    function = next.clone();
                }
                Function::Chain { first, second, .. } => {
                    let between = self.apply(first.clone(), arguments, &input)?;
                    arguments = vec![between];
                    function = second.clone();
                }
                Function::Transform { transform, frame } => {
                    let subject = arguments.into_iter().next().unwrap_or(Value::Undefined);
                    return self.transform(transform, &subject, *frame);
                }
                Function::Regex(pattern) => {
                    let Some(Value::Text(text)) = arguments.into_iter().next() else {
                        return Ok(Value::Undefined);
                    };
                    return functions::next_match(self, pattern, &text, 0);
                }
                Function::NextMatch {
                    pattern,
                    text,
                    from,
                } => return functions::next_match(self, pattern, text, *from),
            }
        }
    }

    /// A call that is the last act of a body is handed back, so that a loop written as a
    /// recursion takes no depth.
    fn body(&mut self, node: &Node, input: &Value, frame: Frame) -> Evaluated<Outcome> {
        let bare = node.predicates.is_empty() && node.group.is_none() && !node.keep_array;
        match &node.kind {
            Kind::Call(function, arguments) if bare => {
                self.budget.steps(1)?;
                let (function, arguments) =
                    self.prepared(function, arguments, None, input, frame)?;
                let input = input.clone();
                Ok(Outcome::Call {
                    function,
                    arguments,
                    input,
                })
            }
            Kind::Condition(condition, then, otherwise) if bare => {
                self.budget.steps(1)?;
                let holds = self.evaluate(condition, input, frame)?;
                match (self.truth(&holds)?, otherwise) {
                    (true, _) => self.within(|run| run.body(then, input, frame)),
                    (false, Some(otherwise)) => {
                        self.within(|run| run.body(otherwise, input, frame))
                    }
                    (false, None) => Ok(Outcome::Value(Value::Undefined)),
                }
            }
            Kind::Block(parts) if bare => {
                let Some((last, before)) = parts.split_last() else {
                    return Ok(Outcome::Value(Value::Undefined));
                };
                let inner = self.frame(frame)?;
                for part in before {
                    self.evaluate(part, input, inner)?;
                }
                self.within(|run| run.body(last, input, inner))
            }
            _ => Ok(Outcome::Value(self.evaluate(node, input, frame)?)),
        }
    }

    pub fn partial(
        &mut self,
        function: &Node,
        arguments: &[Node],
        input: &Value,
        frame: Frame,
    ) -> Evaluated {
        let name = name_of(function);
        let function = self.evaluate(function, input, frame)?;
        if !function.is_function() {
            return Err(self.failed(format!("{name} is no function")));
        }
        let mut given = Vec::with_capacity(arguments.len());
        for argument in arguments {
            self.room(1)?;
            given.push(match argument.kind {
                Kind::Placeholder => None,
                _ => Some(self.evaluate(argument, input, frame)?),
            });
        }
        let inner = given.iter().flatten().map(Value::depth).max().unwrap_or(0);
        let depth = 1 + inner.max(function.depth());
        self.function(Function::Partial {
            function,
            arguments: given,
            depth,
        })
    }

    pub fn chain(&mut self, left: &Node, right: &Node, input: &Value, frame: Frame) -> Evaluated {
        let first = self.evaluate(left, input, frame)?;
        let first = self.plain(first)?;
        if let Kind::Call(function, arguments) = &right.kind
            && right.predicates.is_empty()
        {
            return self.call(function, arguments, Some(first), input, frame);
        }
        let second = self.evaluate(right, input, frame)?;
        if !second.is_function() {
            return Err(self.failed("what stands behind `~>` is no function"));
        }
        if first.is_function() {
            let depth = 1 + first.depth().max(second.depth());
            return self.function(Function::Chain {
                first,
                second,
                depth,
            });
        }
        self.apply(second, vec![first], input)
    }

    /// How many arguments a function has a use for.
    pub fn arity(&self, function: &Value) -> usize {
        match function {
            Value::Native(native) => native.signature().arity(),
            Value::Function(function) => match &**function {
                Function::Lambda { lambda, .. } => lambda.parameters.len(),
                Function::Partial { arguments, .. } => {
                    arguments.iter().filter(|given| given.is_none()).count()
                }
                _ => 1,
            },
            _ => 0,
        }
    }

    /// A copy of the subject, in which what the pattern finds has been changed.
    fn transform(&mut self, transform: &Transform, subject: &Value, frame: Frame) -> Evaluated {
        if subject.is_undefined() {
            return Ok(Value::Undefined);
        }
        if !matches!(subject, Value::Object(_) | Value::Array(_)) {
            return Err(self.failed("only objects and arrays can be transformed"));
        }
        let copy = self.copied(subject)?;
        let found = self.evaluate(&transform.location, &copy, frame)?;
        let found = self.plain(found)?;
        let mut changed: HashMap<*const Object, Value> = HashMap::new();
        for object in found.items() {
            let Value::Object(found) = object else {
                continue;
            };
            self.field("")?;
            let update = self.evaluate(&transform.update, object, frame)?;
            let mut fields = self.fields_of(found)?;
            match &update {
                Value::Undefined => {}
                Value::Object(update) => {
                    for (name, value) in &update.fields {
                        self.field(name)?;
                        fields.insert(name.clone(), value.clone());
                    }
                }
                _ => return Err(self.failed("the update of a transform is no object")),
            }
            if let Some(delete) = &transform.delete {
                let delete = self.evaluate(delete, object, frame)?;
                for name in delete.items() {
                    match name {
                        Value::Text(name) => {
                            self.budget.read(name.len())?;
                            self.budget.steps(fields.len() as u64 / 8)?;
                            fields.shift_remove(name);
                        }
                        Value::Undefined => {}
                        _ => return Err(self.failed("a transform deletes fields by their names")),
                    }
                }
            }
            let object = self.object(fields)?;
            changed.insert(Rc::as_ptr(found), object);
        }
        self.rebuilt(&copy, &changed, 0)
    }

    fn fields_of(&mut self, object: &Object) -> Evaluated<Fields> {
        for name in object.fields.keys() {
            self.field(name)?;
        }
        Ok(object.fields.clone())
    }

    /// Every object anew, so that each has an address of its own.
    fn copied(&mut self, value: &Value) -> Evaluated {
        match value {
            Value::Array(array) => {
                let mut items = Vec::with_capacity(array.items.len());
                for item in &array.items {
                    self.item()?;
                    items.push(self.copied(item)?);
                }
                self.list(items)
            }
            Value::Object(object) => {
                let mut fields = Fields::with_capacity(object.fields.len());
                for (name, value) in &object.fields {
                    self.field(name)?;
                    fields.insert(name.clone(), self.copied(value)?);
                }
                self.object(fields)
            }
            other => Ok(other.clone()),
        }
    }

    fn rebuilt(
        &mut self,
        value: &Value,
        changed: &HashMap<*const Object, Value>,
        level: usize,
    ) -> Evaluated {
        if level > crate::budget::DEEPEST_VALUE {
            return Err(crate::budget::Bound::ValueDepth.into());
        }
        self.budget.steps(1)?;
        match value {
            Value::Array(array) => {
                let mut items = Vec::with_capacity(array.items.len());
                for item in &array.items {
                    self.item()?;
                    items.push(self.rebuilt(item, changed, level + 1)?);
                }
                self.list(items)
            }
            Value::Object(object) => {
                let now = match changed.get(&Rc::as_ptr(object)) {
                    Some(Value::Object(now)) => now,
                    _ => object,
                };
                let mut fields = Fields::with_capacity(now.fields.len());
                for (name, value) in &now.fields {
                    self.field(name)?;
                    fields.insert(name.clone(), self.rebuilt(value, changed, level + 1)?);
                }
                self.object(fields)
            }
            other => Ok(other.clone()),
        }
    }
}

fn name_of(function: &Node) -> String {
    match &function.kind {
        Kind::Variable(name) => format!("${name}"),
        Kind::Path(path) => match &path.steps[0].kind {
            Kind::Name(name) => format!("{name} (without a $)"),
            _ => "what is called".into(),
        },
        _ => "what is called".into(),
    }
}
